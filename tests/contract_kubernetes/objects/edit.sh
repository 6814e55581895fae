#!/bin/sh
exec sed -i 's/green: two/green: edited/' "$1"
