-- COPY in and out, in each format, whole and failing.
CREATE TEMP TABLE t (a int PRIMARY KEY, b text, c numeric);
COPY t FROM STDIN;
1	one	1.5
2	\N	2.5
3	tab\there and \\ there	\N
\.
COPY t TO STDOUT;
COPY t TO STDOUT (FORMAT csv, HEADER, FORCE_QUOTE *, NULL 'nothing');
COPY (SELECT a, upper(b) FROM t ORDER BY a DESC) TO STDOUT (DELIMITER ';', FORMAT csv);
COPY t (a, b) FROM STDIN (FORMAT csv, HEADER match);
a,b
10,"quoted, with comma and ""quotes"""
11,"two
lines"
\.
SELECT * FROM t ORDER BY a;
-- a duplicate key, a column too many, a value of another type
COPY t FROM STDIN;
1	again	0
\.
COPY t FROM STDIN;
20	x	1	too many
\.
COPY t FROM STDIN;
twenty	x	1
\.
SELECT count(*) FROM t;
-- within a block that fails and is rolled back to a savepoint
BEGIN;
SAVEPOINT s;
COPY t FROM STDIN;
1	again	0
\.
ROLLBACK TO s;
COPY t FROM STDIN;
30	kept	0
\.
COMMIT;
SELECT b FROM t WHERE a = 30;
-- binary, through files
\copy t TO '/dev/null' (FORMAT binary)
\copy (SELECT a FROM t ORDER BY a) TO PSTDOUT (FORMAT csv)
COPY nowhere FROM STDIN;
COPY t TO STDOUT (FORMAT nothing);
SELECT 1 \; COPY t TO STDOUT \; SELECT 2;
-- empty
CREATE TEMP TABLE empty ();
COPY empty TO STDOUT;
COPY t FROM STDIN;
\.
