-- Cursors, savepoints, prepared statements, and what is left of them after errors.
BEGIN;
DECLARE c SCROLL CURSOR FOR SELECT n, n * n AS square FROM generate_series(1, 10) n;
FETCH 3 FROM c;
FETCH BACKWARD 2 FROM c;
FETCH ABSOLUTE 7 FROM c;
MOVE FORWARD ALL IN c;
FETCH PRIOR FROM c;
FETCH 0 FROM c;
CLOSE c;
FETCH 1 FROM c;
ROLLBACK;
DECLARE outside CURSOR FOR SELECT 1;
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 3) n;
COMMIT;
FETCH ALL FROM held;
CLOSE ALL;
BEGIN;
SAVEPOINT a;
SELECT 1/0;
SELECT 'ignored';
ROLLBACK TO a;
SAVEPOINT b;
SELECT 'x'::int;
ROLLBACK TO b;
RELEASE b;
RELEASE never;
ROLLBACK;
-- psql gathers such a result in pieces
\set FETCH_COUNT 7
SELECT n FROM generate_series(1, 20) n;
SELECT n, 1/(15 - n) FROM generate_series(1, 20) n;
\unset FETCH_COUNT
PREPARE p (int, text) AS SELECT $1 + 1, $2 || '!';
EXECUTE p (1, 'a');
EXECUTE p ('x', 'a');
PREPARE p AS SELECT 1;
SELECT name, statement, parameter_types FROM pg_prepared_statements WHERE name = 'p';
DEALLOCATE p;
DEALLOCATE p;
SELECT 1 \g
SELECT 1 AS a, 2 AS b \gdesc
SELECT 'SELECT ' || n FROM generate_series(1, 3) n \gexec
\set AUTOCOMMIT off
CREATE TEMP TABLE t (a int);
INSERT INTO t VALUES (1);
ROLLBACK;
SELECT * FROM t;
ROLLBACK;
\set AUTOCOMMIT on
\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 1/0;
SELECT 'the block goes on';
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE;
SHOW transaction_isolation;
CREATE TABLE not_now (a int);
ROLLBACK;
COMMIT AND CHAIN;
BEGIN;
SELECT 1;
COMMIT AND CHAIN;
SELECT 2;
ROLLBACK;
