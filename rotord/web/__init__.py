"""What rotord answers over HTTP: unsubscribing, providers' posts, health, metrics. On every node, whether it leads or stands by.

Owns the socket and its bounds (listener), the bodies it reads (body), the pages for people (page). It knows no database: the
composition root hands it functions, whose types are in `ports`. A reverse proxy brings TLS and should let only `/u/`, `/webhooks/` and
`/inbound/` in from outside.
"""
