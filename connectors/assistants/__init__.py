"""AI assistants: they see the organization's apps as tools, over the Model Context Protocol.

access    what an assistant may do over a connection: nothing, read, ask, act
tools     what it is offered: every action of these connections, with its JSON Schema
calls     what becomes of a call: tried dry, read at once, or put down as an event that starts a run
wiring    the flow behind a tool that changes something: asks a person first, then acts, once
drafting  flows an assistant writes; the same checks as the editor's, and never published
menu      what is listed, and who serves which tool
door      /mcp itself, in front of the web framework
protocol  the official package's server over the menu
"""
