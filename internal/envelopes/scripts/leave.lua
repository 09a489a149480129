-- leave says that this node has nobody left in a topic. ARGV: 4 topic.
leave(ARGV[4])
return 1
