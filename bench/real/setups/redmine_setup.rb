# Run by Redmine's rails runner: the REST interface, a project, and the administrator's key.
Setting.rest_api_enabled = '1'
Setting.login_required = '1'
User.current = admin = User.find_by_login('admin')
admin.must_change_passwd = false
admin.save!
Project.create!(name: '展会', identifier: 'events', enabled_module_names: ['issue_tracking'],
                tracker_ids: Tracker.pluck(:id))
puts({ key: admin.api_key }.to_json)
