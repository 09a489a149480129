-- leave says that this node has no members in a topic any more. ARGV: 4 topic.
leave(ARGV[4])
return 1
