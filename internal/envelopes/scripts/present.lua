-- present adds a user of this node to a topic, and answers with a marker. ARGV: 4 token, 5 user, 6 user_info.
present(ARGV[5], ARGV[6])
publish(ARGV[3], 'm', ARGV[4])
return 1
