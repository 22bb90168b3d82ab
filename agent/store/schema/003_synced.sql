-- The revision that the node has given up by itself, and why; and the position with
-- the hub as one value instead of two, which nothing had used.

ALTER TABLE functions ADD COLUMN bad TEXT NOT NULL DEFAULT '';
ALTER TABLE functions ADD COLUMN why TEXT NOT NULL DEFAULT '';

DELETE FROM meta WHERE name IN ('epoch', 'revision');
