-- absent removes a user of this node. ARGV: 4 user.
absent(ARGV[4])
return 1
