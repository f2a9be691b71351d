-- Where the tables of SAQ's worker queues stand; SAQ makes them itself when its first worker starts.
CREATE SCHEMA IF NOT EXISTS queue;
