-- leave says that this node has no members in a topic any more. ARGV: 4 topic, 5 wanted (total.lua).
leave(ARGV[4])
total(ARGV[5])
return 1
