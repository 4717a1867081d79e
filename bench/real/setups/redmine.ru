# Redmine, one request at a time, as SQLite has one writer.
require '/usr/share/redmine/config/environment'
use Rack::Lock
run Rails.application
