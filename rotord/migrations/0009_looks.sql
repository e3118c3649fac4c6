-- The claim's two looks into the queue, as functions, because the plan is not the planner's to choose.
--
-- Both must follow queue_ready in its order. For the planner a queue that was nearly empty when it was last analysed makes a scan of all
-- of it, or a bitmap and a sort, look as cheap. A prepared statement keeps such a plan while the queue fills; it reads every dead row for every
-- lane, and a bitmap does not even mark them as dead for the next look: 1 ms became 15, until the next ANALYZE.

-- Every lane from `first` on that has a queued row, and where its first one is; a loose index scan, one descent for each lane however many
-- rows it has. While something holds back the database's clean-up, a lane's start is where its dead rows lie, and this walks over them.
CREATE FUNCTION rotord.queued_lanes(first bigint, at_once integer)
  RETURNS TABLE (lane bigint, client text, stream text, kind text, campaign text, pin text, pin_kind text,
                 rank integer, due_at double precision, id bigint)
  LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH RECURSIVE lanes AS (
    (SELECT q.lane, q.client, q.stream, q.kind, q.campaign, q.pin, q.pin_kind, q.rank, q.due_at, q.id
     FROM rotord.queue AS q
     WHERE q.state = 'queued' AND q.lane >= first
     ORDER BY q.lane, q.rank, q.due_at, q.id
     LIMIT 1)
    UNION ALL
    (SELECT n.*
     FROM lanes AS l
     CROSS JOIN LATERAL (
       SELECT q.lane, q.client, q.stream, q.kind, q.campaign, q.pin, q.pin_kind, q.rank, q.due_at, q.id
       FROM rotord.queue AS q
       WHERE q.state = 'queued' AND q.lane > l.lane
       ORDER BY q.lane, q.rank, q.due_at, q.id
       LIMIT 1) AS n)
  )
  SELECT l.lane, l.client, l.stream, l.kind, l.campaign, l.pin, l.pin_kind, l.rank, extract(epoch FROM l.due_at)::float8, l.id
  FROM lanes AS l
  LIMIT at_once;
END
$$;
REVOKE ALL ON FUNCTION rotord.queued_lanes FROM PUBLIC;

-- Of each lane up to `most` rows after a place in its order, lane after lane.
CREATE FUNCTION rotord.queued_rows(lanes bigint[], most integer[], ranks integer[], due_ats double precision[], ids bigint[])
  RETURNS TABLE (id bigint, lane bigint, rank integer, due_at double precision, bytes integer, attempts integer, first_at double precision,
                 message_id text, thread_key text, avoid text)
  LANGUAGE plpgsql STABLE SET enable_bitmapscan = off SET enable_seqscan = off SET enable_sort = off AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  SELECT n.id, w.lane, n.rank, extract(epoch FROM n.due_at)::float8, n.bytes, n.attempts, extract(epoch FROM n.first_at)::float8,
         n.message_id, n.thread_key, n.avoid
  FROM unnest(lanes, most, ranks, due_ats, ids) AS w (lane, most, rank, due_at, id)
  CROSS JOIN LATERAL (
    SELECT q.id, q.rank, q.due_at, q.bytes, q.attempts, q.first_at, q.message_id, q.thread_key, q.avoid
    FROM rotord.queue AS q
    WHERE q.state = 'queued' AND q.lane = w.lane AND (q.rank, q.due_at, q.id) > (w.rank, to_timestamp(w.due_at), w.id)
    ORDER BY q.rank, q.due_at, q.id
    LIMIT w.most) AS n;
END
$$;
REVOKE ALL ON FUNCTION rotord.queued_rows FROM PUBLIC;
