"""What the editor of flows knows beside the document: its picture, samples, fields, proposals."""
