-- Values of every shape, as text.
SELECT 1::int2, -1::int8, 1.10::numeric, 'NaN'::numeric, 'Infinity'::float8, 1e-300::float8, 3.4e38::float4;
SELECT true, null::bool, 'c'::"char", 'name'::name, 'x'::char(5), ''::text, '\xdeadbeef'::bytea;
SELECT date '2000-02-29', time '24:00', timetz '12:00+02', timestamp 'infinity', timestamptz '2000-01-01 00:00+00' AT TIME ZONE 'UTC', interval '1 year -3 days 04:05:06.789';
SELECT '{1,NULL,3}'::int[], '{{a,b},{"c,d",NULL}}'::text[], '[0:1]={1,2}'::int[], '{}'::int[];
SELECT ROW(1, 'a', NULL), ROW(ROW(1, 2), ARRAY[ROW(3, 4)]), '{"a": [1, {"b": null}]}'::jsonb, '{"a":  1}'::json;
SELECT '192.168.0.1/24'::inet, '10.0.0.0/8'::cidr, '08:00:2b:01:02:03'::macaddr, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid;
SELECT point '(1,2)', box '((0,0),(1,1))', path '((0,0),(1,1))', circle '<(0,0),1>', int4range(1, 5), '{[1,2],[4,5]}'::int4multirange;
SELECT 'a & b'::tsquery, 'a b c'::tsvector, B'101'::varbit, '<a/>'::xml, '12.34'::money IS NOT NULL, 'pg_class'::regclass, '(0,1)'::tid;
SELECT chr(127), chr(1), E'\t\n\r', repeat('é', 100), '😀';
SELECT repeat('x', 300000) = repeat('x', 300000), length(repeat('long ', 200000));
SELECT n FROM generate_series(1, 0) n;
SELECT;
SELECT FROM generate_series(1, 3);
TABLE pg_catalog.pg_am;
VALUES (1, 'a'), (2, NULL);
WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t;
CREATE TYPE pg_temp.mood AS ENUM ('sad', 'ok');
CREATE DOMAIN pg_temp.positive AS int CHECK (VALUE > 0);
SELECT 'ok'::pg_temp.mood, 5::pg_temp.positive;
SELECT 'happy'::pg_temp.mood;
SELECT -5::pg_temp.positive;
SELECT (-5)::pg_temp.positive;
EXPLAIN (COSTS OFF) SELECT 1;
SELECT * FROM pg_temp.never;
\d pg_am
\x
SELECT 1 AS expanded, NULL AS nothing;
SHOW server_version_num;
