package commands

import "slices"

// Table is the table of commands, in the order in which help shows them.
func Table() []Command {
	all := basics()
	i := slices.IndexFunc(all, func(c Command) bool { return c.Group == groupSetUp })
	return slices.Insert(all, i, operating()...)
}

// operating has the commands that look into a running server and steer it.
func operating() []Command {
	table := operatingTable()
	for i := range table {
		c := &table[i]
		c.Group, c.Shared = groupLook, []string{"dev", "host", "port", "path", "env-file",
			"env"}
		c.Variables = []string{"REVERB_SERVER_HOST", "REVERB_SERVER_PORT", "REVERB_CONTROL_SOCKET"}
		c.About = append(
			c.About,
			"It asks over the control socket. Run it as the server's user, or as root. --all "+
				"asks all nodes over Redis; a node that does not answer within 2 seconds is "+
				"named, and the exit code is 1.",
		)
		if c.Exits[1] == "" {
			c.Exits[1] = "no running server was found, it is older and does not know this, or " +
				"a node has not answered"
		}
	}
	return table
}

// looking picks the flags of these names.
func looking(names ...string) (all []Flag) {
	for _, f := range []Flag{
		{Name: "app", Value: "ID", Help: "of this app alone"},
		{Name: "channel", Value: "NAME", Many: true, Help: "those that are subscribed to it"},
		{Name: "user", Value: "ID",
			Help: "those that are signed in as this user, or on a presence channel as the user"},
		{Name: "address", Value: "IP|NET",
			Help: "those from an address, or from a network such as 10.0.0.0/8"},
		{Name: "socket", Value: "ID", Help: "the one with this socket ID"},
		{Name: "once", Help: "print one picture alone, of 2 seconds"},
		{Name: "reconnect", Help: "send 4200, so that clients reconnect"},
		{Name: "yes", Help: "do not ask, however many there are"},
		{Name: "json", Help: "print a line of JSON for each row"},
		{Name: "all", Help: "of all nodes of the cluster, not of this one alone"},
	} {
		if slices.Contains(names, f.Name) {
			all = append(all, f)
		}
	}
	return all
}

// operatingTable has what tells these commands apart.
func operatingTable() []Command {
	return []Command{
		{Name: "status",
			Help:  "print how a running server stands: connections, memory, loops, apps",
			Also:  []string{"info", "stats", "state", "ps"},
			Flags: looking("json", "all"),
			Examples: []Example{{"reverb status", "of the server of this configuration"},
				{"reverb status --all", "of every node of its cluster"}}},
		{Name: "connections",
			Help: "list the connections: who, from where, since when, and how much",
			About: []string{
				"IN and OUT are bytes as the system counts them; a dash stands where it does " +
					"not, as for Unix sockets. WAITING is what the client has not taken. USER " +
					"is as whom the connection is signed in, or else the first as whom it has " +
					"joined a presence channel.",
			},
			Also:  []string{"clients", "conns", "list", "sockets"},
			Flags: looking("app", "channel", "user", "address", "socket", "json", "all"),
			Examples: []Example{{"reverb connections", "all of them"},
				{"reverb connections --channel presence-chat", "those on a channel"},
				{
					"reverb connections --address 10.0.0.0/8 --json",
					"those from a network, for a program",
				}}},
		{Name: "channels", Args: "[PREFIX]",
			Help:  "list the channels that have subscribers",
			Takes: "what the names begin with", Max: 1,
			Flags:    looking("app", "json", "all"),
			Examples: []Example{{"reverb channels presence-", "all presence channels"}}},
		{Name: "users", Args: "CHANNEL",
			Help:  "list the members of a presence channel",
			Takes: "a presence channel", Min: 1, Max: 1,
			Also:  []string{"members", "who"},
			Flags: looking("app", "json", "all"),
			Examples: []Example{
				{"reverb users presence-chat", "the members as this node knows them"},
				{"reverb users presence-chat --all", "though no member is connected to this node"},
			},
			Exits: [3]string{"", "nobody is subscribed, no running server was found, it is older " +
				"and does not know this, or a node has not answered"}},
		{Name: "top",
			Help:  "show what is busy, again and again: rates, lag, channels, connections",
			Also:  []string{"monitor", "live", "watch-server"},
			Flags: looking("once", "json", "all"),
			Examples: []Example{
				{"reverb top", "until q or Ctrl+C"},
				{"reverb top --once", "one picture, as where nobody looks"},
			},
			Exits: [3]string{"it was stopped with q or Ctrl+C, or has printed one picture"}},
		{Name: "kick", Args: "[SOCKET]",
			Help: "close connections: one, or those of a user, an address or a channel",
			About: []string{
				"It prints which. Where there are several, on all nodes together with --all, it " +
					"asks first. Clients stop for good with the code 4009 that they get; with " +
					"--reconnect they get 4200, and come back.",
			},
			Takes: "a socket ID, or --socket, --user, --address or --channel", Min: 1, Max: 1,
			Instead: []string{"socket", "user", "address", "channel"},
			Also:    []string{"close", "disconnect", "kill", "terminate", "drop"},
			Flags: looking("app", "channel", "user", "address", "socket", "reconnect", "yes",
				"json", "all"),
			Examples: []Example{{"reverb kick 123.456", "one connection"},
				{"reverb kick --user 42 --all", "all connections of a user, wherever they are"},
				{
					"reverb kick --address 203.0.113.0/24 --reconnect --yes",
					"those from a network, to come back",
				}},
			Exits: [3]string{
				"the connections were closed",
				"nothing matched, nobody was kicked, or a node has not answered",
			}},
		{Name: "trace", Args: "[CHANNEL...]",
			Help: "show the traffic of channels, a connection, a user or an address",
			About: []string{
				"Secrets are hidden. At most 4 traces run at a time, each for 10 minutes and of " +
					"1,000 lines a second; lines beyond are counted. With --all that holds for " +
					"each node. The log says who traces what.",
			},
			Takes: "channels, or --channel, --socket, --user or --address", Min: 1, Max: -1,
			Instead: []string{"channel", "socket", "user", "address"},
			Also:    []string{"debug", "sniff", "follow", "log"},
			Flags: append([]Flag{{Name: "channel", Value: "NAME", Many: true,
				Help: "a channel, like the argument"}},
				looking("app", "socket", "user", "address", "json", "all")...),
			Examples: []Example{{"reverb trace private-chat.1", "events, and who subscribes"},
				{"reverb trace --socket 123.456", "everything that one client sends and gets"},
				{"reverb trace --user 42 --json", "that of a user, for a program"}},
			Exits: [3]string{"it was stopped with Ctrl+C, or its time is over"}},
	}
}
