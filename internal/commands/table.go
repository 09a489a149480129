package commands

// Titles above the commands in help.
const (
	groupServe = "Serving"
	groupTry   = "Trying"
	groupLook  = "Looking inside, and steering"
	groupSetUp = "Setting up"
)

// groups has the titles in the order of help.
func groups() []string { return []string{groupServe, groupTry, groupLook, groupSetUp} }

// overview is the topic of help that lists every variable.
const overview = "variables"

// basics has the commands, except those of operators.
func basics() []Command {
	place := []string{"host", "port", "path", "env-file", "env"} // lead to a running server
	app := append([]string{"dev"}, place...)
	credentials := []string{"REVERB_SERVER_PORT", "REVERB_APP_ID", "REVERB_APP_KEY",
		"REVERB_APP_SECRET"}
	return []Command{
		{Name: "start", Group: groupServe,
			Help: "serve until a signal comes (the default)",
			About: []string{
				"It reads .env in the folder where it is started, and the configuration of the " +
					"Laravel application there. " + precedence + " reverb check shows what is in " +
					"force, and where each value stands.",
				"SIGTERM and SIGINT (Ctrl+C) stop it: for REVERB_SHUTDOWN_GRACE seconds " +
					"connections are told to reconnect. A second signal ends it at once. SIGHUP " +
					"makes it read its configuration again, unless it comes because the terminal " +
					"was closed: then it stops too.",
				"On a terminal it greets; elsewhere, and with -q or REVERB_LOG_FORMAT=json, it " +
					"writes its log alone.",
				"With --dev it serves a fresh app, and the status page on loopback, on port 9090 " +
					"or another one that is free. The link that it prints opens the console of " +
					"the page without the secret, once, within 10 minutes of the start.",
			},
			Also: []string{"serve", "server", "run", "up", "begin"},
			Shared: []string{"dev", "host", "port", "path", "hostname", "debug", "env-file",
				"env"},
			Artisan: true,
			Variables: []string{"REVERB_SERVER_HOST", "REVERB_SERVER_PORT", "REVERB_APP_ID",
				"REVERB_APP_KEY", "REVERB_APP_SECRET", "REVERB_HOST", "REVERB_PORT",
				"REVERB_SCHEME", "REVERB_ADMIN_LISTEN", "REVERB_TLS_CERT",
				"REVERB_SCALING_ENABLED"},
			Examples: []Example{
				{"reverb start", "in the folder of a Laravel application: serve its app"},
				{"reverb start --dev", "try things out, with an app of its own"},
				{"reverb start --host 127.0.0.1 --port 9000 --debug",
					"listen elsewhere, and show the traffic"},
			},
			Exits: [3]string{"a signal or reverb restart has stopped it",
				"it could not listen, or something failed while it served"}},
		{Name: "restart", Group: groupServe,
			Help: "put a fresh process in the place of a running server, and wait until it is done",
			About: []string{"Where that is possible it is an upgrade (reverb upgrade), which " +
				"closes no connection. Elsewhere the connections are told to reconnect and the " +
				"server ends, if systemd, Supervisor or the like is seen, which starts the next " +
				"one; else it serves on, and says why. It also serves on if the new program or " +
				"its configuration is broken. REVERB_RESTART chooses. " +
				"Run it as the server's user, or as root."},
			Also:    []string{"stop", "reload", "quit"},
			Shared:  place,
			Artisan: true,
			Variables: []string{"REVERB_SERVER_PORT", "REVERB_CONTROL_SOCKET",
				"REVERB_SHUTDOWN_GRACE", "REVERB_RESTART"},
			Examples: []Example{
				{"reverb restart", "the server of this configuration"},
				{"reverb restart --port 9000", "the one on another port"},
			},
			Exits: [3]string{"the server has stopped, or a successor serves",
				"no running server was found, or it serves on, or it " +
					"has not stopped in time"}},
		{Name: "upgrade", Group: groupServe,
			Help: "have a running server hand its connections to the program that lies at its " +
				"path now, without closing any",
			About: []string{"The server starts the new program with its own arguments and " +
				"environment, and serves on if that fails. The old process stays for as long as " +
				"it relays TLS connections. A changed unit file or environment takes a stop and " +
				"a start. Run it as the server's user, or as root. It is for Linux."},
			Flags: []Flag{{Name: "dry-run", Help: "say how many connections would move, and " +
				"what stands in the way"}},
			Shared: place,
			Variables: []string{"REVERB_SERVER_PORT", "REVERB_CONTROL_SOCKET",
				"REVERB_UPGRADE_DRAIN"},
			Examples: []Example{
				{"reverb upgrade", "after the new file lies in place"},
				{"reverb upgrade --dry-run", "before"},
			},
			Exits: [3]string{"the new program serves",
				"no running server was found, or the old one serves on and says why"}},
		{Name: "check", Group: groupServe,
			Help: "check the configuration and what it needs, without serving",
			About: []string{"It shows every value that is in force and where it stands, looks " +
				"at the certificate, descriptors, kernel, Redis and port, and sends an event " +
				"through the public address and back. A line begins with ok, note (worth a " +
				"look) or FAIL."},
			Also:   []string{"doctor", "config", "test", "verify"},
			Shared: []string{"host", "port", "path", "hostname", "env-file", "env"},
			Variables: []string{"REVERB_HOST", "REVERB_PORT", "REVERB_SCHEME",
				"REVERB_TLS_CERT", "REVERB_SCALING_ENABLED"},
			Examples: []Example{
				{"reverb check", "before a start, or beside a running server"},
				{"reverb check --env-file /etc/reverb.env", "with the file of a service"},
			},
			Exits: [3]string{"nothing stands in the way", "something does not work"}},
		{Name: "health", Group: groupServe,
			Help: "ask a running server whether it is well; exit code 0 if it is",
			About: []string{"It is for the health check of a container, in which there may be " +
				"no other program."},
			Also:      []string{"ping", "alive", "ready"},
			Shared:    place,
			Variables: []string{"REVERB_SERVER_HOST", "REVERB_SERVER_PORT", "REVERB_TLS_CERT"},
			Examples: []Example{
				{"reverb health", "the server of this configuration"},
				{"reverb health --port 9000", "the one on another port"},
			},
			Exits: [3]string{"the server is well", "it is not, or it does not answer"}},
		{Name: "listen", Group: groupTry, Args: "[CHANNEL...]",
			Help: "print what arrives on channels of a running server",
			About: []string{
				"An event is a line: channel, name, data. On a terminal members come and go in " +
					"words, and a client event on a presence channel ends with its user.",
				"It subscribes to channels, private ones with the app's secret. A presence " +
					"channel it watches without joining, so that nobody sees it, over the " +
					"control socket: run it on the server's machine as the server's user, or as " +
					"root. Where that is not possible, --join joins as a member, whom others " +
					"see. Among several nodes only a member hears all.",
				"With --user it signs in as a user, and gets what the application sends to the " +
					"user. Without --user it takes at least one channel.",
				"With --resume it comes back after a cut, and prints what it has missed, if the " +
					"server keeps that (REVERB_RESUME_SECONDS). If something is missing, a line " +
					"on standard error says so.",
			},
			Takes: "one or more channels, or --user", Min: 1, Max: -1, Instead: []string{"user"},
			Flags: []Flag{
				{Name: "user", Value: "ID", Help: "sign in as this user"},
				{Name: "join", Help: "join presence channels as a member, instead of watching " +
					"them unseen"},
				{Name: "resume", Help: "connect again after a cut, and print what was missed"},
				{Name: "time", Help: "begin each line with the time of day"},
				{Name: "json", Help: "print each event as an object on a line: at, channel, " +
					"event, user_id, data"},
			},
			Also:      []string{"subscribe", "sub", "watch", "tail"},
			Shared:    app,
			Variables: credentials,
			Examples: []Example{
				{"reverb listen my-channel", "on the server of this configuration"},
				{"reverb listen --dev --time my-channel private-orders", "on that of start --dev"},
				{"reverb listen --user 7", "what the application sends to user 7"},
				{"reverb listen --time presence-room", "who comes and goes, unseen"},
				{"reverb listen --json my-channel | jq .data", "for another program"},
			},
			Exits: [3]string{"it was stopped with Ctrl+C",
				"the connection was refused, or is gone, or a presence channel cannot be watched"}},
		{Name: "trigger", Group: groupTry, Args: "CHANNEL EVENT JSON",
			Help: "publish an event through a running server",
			About: []string{"The data goes out as the text that it is. - in place of JSON reads " +
				"it from standard input, and @FILE from a file."},
			Takes: "a channel, an event and data", Min: 3, Max: 3,
			Flags: []Flag{
				{Name: "channel", Value: "NAME", Many: true,
					Help: "another channel for the same event (a comma may be part of a name)"},
				{Name: "except", Value: "SOCKET",
					Help: "not to the connection with this socket ID"},
			},
			Also:      []string{"publish", "pub", "send", "emit", "broadcast"},
			Shared:    app,
			Variables: credentials,
			Examples: []Example{
				{`reverb trigger my-channel my-event '{"n":1}'`,
					"through the server of this configuration"},
				{`reverb trigger --dev my-channel my-event @event.json --channel other-channel`,
					"from a file, to two channels of start --dev"},
				{`reverb trigger my-channel my-event - --except 123.456 < event.json`,
					"from standard input, not to who has caused it"},
			},
			Exits: [3]string{"the server has taken the event", "it has not"}},
		{Name: "env", Group: groupSetUp,
			Help: "print the lines for .env: what is in force, or a fresh app",
			About: []string{
				"The lines are those that Laravel's installer writes: the app, where browsers " +
					"find the server, and the same for Vite. Without an app they are made at " +
					"random. The app's secret is among them, since that is what they are for.",
				"Nothing else is printed on standard output, so that it can be added to a file. " +
					"A file that is in force and has an app already is left alone.",
			},
			Flags: []Flag{{Name: "app", Value: "ID", Help: "of several apps the one with this " +
				"ID, instead of the first"},
				{Name: "from", Value: "SERVER", Help: "what the present variables of pusher, " +
					"soketi or websockets mean here, instead",
					Choices: []string{"pusher", "soketi", "websockets"}}},
			Also:   []string{"init", "install", "dotenv", "genconfig", "credentials", "key"},
			Shared: []string{"dev", "host", "port", "path", "hostname", "env-file", "env"},
			Variables: []string{"REVERB_APP_ID", "REVERB_APP_KEY", "REVERB_APP_SECRET",
				"REVERB_HOST", "REVERB_PORT", "REVERB_SCHEME"},
			Examples: []Example{
				{"reverb env >> .env", "give an application an app, or the one of this machine"},
				{"reverb env --dev", "what a running start --dev serves"},
				{"reverb env --from soketi --env-file soketi.env",
					"translate the variables of soketi"},
			},
			Exits: [3]string{"", "there is no such app, or the file has one already"}},
		{Name: "completion", Group: groupSetUp, Args: "SHELL",
			Help:    "print the completion of commands and flags for bash, zsh or fish",
			Takes:   "bash, zsh or fish",
			Choices: shells(), Min: 1, Max: 1,
			Also: []string{"completions", "complete"},
			Examples: []Example{
				{"reverb completion bash > /etc/bash_completion.d/reverb", "for everybody"},
				{"reverb completion zsh > ~/.zfunc/_reverb", "in a folder of fpath"},
				{"reverb completion fish > ~/.config/fish/completions/reverb.fish", "for yourself"},
			}},
		{Name: "man", Group: groupSetUp,
			Help: "print the page of the manual",
			Also: []string{"manual", "manpage", "docs"},
			Examples: []Example{
				{"reverb man > /usr/local/share/man/man1/reverb.1", "then: man reverb"},
				{"reverb man | man -l -", "read it at once"},
			}},
		{Name: "version", Group: groupSetUp,
			Help:     "print the version",
			Examples: []Example{{"reverb version", "as reverb --version does"}}},
		{Name: "help", Group: groupSetUp, Args: "[TOPIC]",
			Help:  "print this, or more of a command, of a variable, or of all variables",
			Takes: "a command, a variable, or the word variables", Max: 1,
			Examples: []Example{
				{"reverb help start", "a command, as reverb start --help does"},
				{"reverb help variables", "every variable, with its default"},
				{"reverb help REVERB_TLS_CERT", "one variable"},
			}},
	}
}

// topics has the topics of help, without the variables.
func topics() []string { return append(names(), overview) }
