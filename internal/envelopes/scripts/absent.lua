-- absent removes a user of this node from a topic. ARGV: 4 user.
absent(ARGV[4])
return 1
