#!/bin/sh
# One connection of an agent's that goes on for forty seconds: a statement each second, told as `said|N`.
for n in $(seq 40); do
    echo "select 'said', $n;"
    sleep 1
done | psql -XAt "host=db.prod.internal dbname=shop user=agent sslmode=verify-full"
