"""The Bot API on loopback: getMe, getChat, sendMessage, as documented."""

from aiohttp import web

from tests.doubles.chat_services import ChatDouble

TOKEN = "12345:the-right-token"
CHAT = "-100200300"


def failure(code, description, **parameters):
    body = {"ok": False, "error_code": code, "description": description}
    return {**body, "parameters": parameters} if parameters else body


class TelegramDouble(ChatDouble):
    chat = CHAT

    def answer(self, path, content):  # noqa: PLR0911 - a refusal each
        bot, _, method = path.strip("/").partition("/")
        if bot != f"bot{TOKEN}":
            return web.json_response(failure(401, "Unauthorized"), status=401)
        if method == "getMe":
            return web.json_response({"ok": True, "result": {"id": 12345, "is_bot": True, "username": "rotord_bot"}})
        if method == "sendMessage" and (refusal := self.refusal()):
            return refusal
        if content.get("chat_id") != self.chat:
            return web.json_response(failure(400, "Bad Request: chat not found"), status=400)
        if method == "sendMessage":
            text = content["text"]
            if content["parse_mode"] != "HTML" or "<" in text.replace("<b>", "").replace("</b>", ""):
                return web.json_response(failure(400, "Bad Request: can't parse entities"), status=400)
            if not 1 <= len(text.encode("utf-16-le")) // 2 <= 4096 + 4 * text.count("&"):
                return web.json_response(failure(400, "Bad Request: message is too long"), status=400)
            self.take(content)
        return web.json_response({"ok": True, "result": {}})
