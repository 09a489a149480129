-- bury is leave for an incarnation that is dead; another node calls it. ARGV: 4 topic, 5 wanted (total.lua).
leave(ARGV[4])
total(ARGV[5])
return 1
