// graphile-worker with the bench's handler: the payload, the same POST, a log row. Arguments: fill JOBS, or work API JOBS_AT_ONCE. The database
// is PGHOST's, PGUSER's, PGDATABASE's. Settings are those of its published fast preset.
import http from "node:http";
import pg from "pg";
import { run, runMigrations } from "graphile-worker";

const pgPool = new pg.Pool({ max: 20 });
if (process.argv[2] === "fill") {
  await runMigrations({ pgPool });
  await pgPool.query(
    "SELECT count(*) FROM (SELECT graphile_worker.add_job('send', payload::json) FROM mail WHERE id < $1 ORDER BY id) AS added",
    [process.argv[3]],
  );
  await pgPool.query("VACUUM ANALYZE");
  await pgPool.end();
} else {
  const atOnce = Number(process.argv[4]);
  const agent = new http.Agent({ keepAlive: true, maxSockets: atOnce });
  const url = new URL(process.argv[3] + "/v3/mail/send");
  const post = (body) =>
    new Promise((resolve, reject) => {
      const headers = { Authorization: "Bearer SG.key", "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) };
      const request = http.request(url, { method: "POST", agent, headers }, (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode));
      });
      request.on("error", reject);
      request.end(body);
    });
  const runner = await run({
    pgPool,
    taskList: {
      send: async (message, helpers) => {
        const status = await post(JSON.stringify(message));
        await helpers.query("INSERT INTO mail_log (message, status) VALUES ($1, $2)", [message.id, status]);
      },
    },
    preset: { worker: { concurrentJobs: atOnce, maxPoolSize: 20, localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
  });
  await runner.promise;
}
