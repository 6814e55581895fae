-- psql's own commands call functions by number; SQL calls them by name.
\set QUIET on
\lo_import /etc/passwd 'a file'
\set it :LASTOID
SELECT length(lo_get(:it)) > 0 AS holds_something;
\lo_export :it /dev/null
SELECT convert_from(lo_get(:it, 0, 4), 'UTF8');
BEGIN;
SELECT lo_open(:it, 131072 + 262144) AS descriptor \gset
SELECT lo_lseek(:descriptor, 0, 2) > 0;
SELECT lowrite(:descriptor, 'appended');
SELECT lo_lseek64(:descriptor, -8, 2) > 0;
SELECT convert_from(loread(:descriptor, 100), 'UTF8');
SELECT lo_truncate64(:descriptor, 3);
SELECT lo_tell64(:descriptor) > 3;
SELECT lo_close(:descriptor);
COMMIT;
SELECT length(lo_get(:it));
\lo_unlink :it
SELECT lo_get(1);
\lo_unlink 1
\lo_export 1 /dev/null
