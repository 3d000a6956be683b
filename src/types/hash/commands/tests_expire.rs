//! Fields that expire, against an engine in process with a clock of the test.
