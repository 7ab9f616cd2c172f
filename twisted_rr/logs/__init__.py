"""What becomes of log events: lines in a form, sent to sinks. Loggers are `twisted_rr.log`'s subject."""
