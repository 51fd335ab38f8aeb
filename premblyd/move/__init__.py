"""Moving the record to a database of the other engine."""
