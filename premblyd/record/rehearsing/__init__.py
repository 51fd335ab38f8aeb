"""What another configuration would have done with past events: begin with rehearsal.py."""
