#!/bin/sh
# Runs once, when the database container is new: the hub's own role owns nothing and bypasses nothing.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v password="$YANGFAN_APP_PASSWORD" <<'SQL'
CREATE ROLE yangfan_app LOGIN NOSUPERUSER NOBYPASSRLS PASSWORD :'password';
SQL
