-- bury is leave for an incarnation that is dead; another node calls it. ARGV: 4 topic.
leave(ARGV[4])
return 1
