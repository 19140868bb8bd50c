-- KEYS: the stream. ARGV: the key of a sign of life, the sign, how long (ms) it counts. A script, because a server
-- whose memory is full takes no other; and without signs all would take each other for dead.

return call('SET', ARGV[1], ARGV[2], 'PX', ARGV[3])
