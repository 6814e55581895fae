//! Sessions against a server that plays a script.
