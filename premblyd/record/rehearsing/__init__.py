"""What another configuration would have done with the events of a time: begin with rehearsal.py."""
