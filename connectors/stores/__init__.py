"""The data store: values that flows keep under a name, for other runs and other flows.

values  one value, one collection: read, put, add, delete, list, search; quotas; what has expired
shelf   the same rules over a plain dictionary, for trying a flow out
routes  JSON   pages  HTML
"""
