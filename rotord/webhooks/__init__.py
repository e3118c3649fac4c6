"""What providers post: is it theirs, and what does it say? Pure functions over bytes; nothing here knows a database or a socket."""
