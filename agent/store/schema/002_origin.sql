-- Who tells the node to run a function: '' for its own hub, cluster for a
-- resource of the Kubernetes cluster that it belongs to.

ALTER TABLE functions ADD COLUMN origin TEXT NOT NULL DEFAULT '';
