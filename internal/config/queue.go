package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"reverb/internal/laravel"
	"reverb/internal/laravelqueue"
	"reverb/internal/lib/show"
)

// Queue says onto which queue of the Laravel application the events of an app are pushed. The app
// has a hook for it.
type Queue struct {
	App string             // the ID of the application's app
	To  laravelqueue.Queue // without a Key nothing is pushed; its Redis is for the caller
	At  RedisAddress
}

// readQueue reads the name of a queue, or whether the application's usual one is meant.
func readQueue(c *Config, s string) error {
	switch strings.ToLower(s) {
	case "true", "1", "on", "yes":
		s = "true"
	case "false", "0", "off", "no":
		s = ""
	}
	if s != "" && !laravel.IsQueueName(s) {
		return errors.New("not the name of a queue, such as default; true means the one of " +
			"the application")
	}
	c.queue = s
	return nil
}

// findQueue finds the queue of REVERB_LARAVEL_QUEUE in Redis.
func (c *Config) findQueue() {
	if c.queue == "" {
		return
	}
	conf := c.application.conf
	if conf == nil {
		conf = laravel.OpenVariables(c.phpEnv)
	}
	name := c.queue
	if name == "true" {
		name = ""
	}
	place, err := conf.QueuePlace(name)
	if err == nil {
		c.Queue.At, err = addressOf(place.Redis)
	}
	given := c.Setting("REVERB_LARAVEL_QUEUE").assignment()
	c.Queue.App = c.Setting("REVERB_APP_ID").Value
	switch {
	case err != nil:
		c.Problem(given, show.Line(err.Error()))
		return
	case c.Queue.App == "" && !c.Dev:
		c.Problem(given, "only events of the application's own app are pushed, and which one it "+
			"is, is not known; set REVERB_APP_ID")
		return
	}
	c.Queue.To.Key = place.Key
	if place.Default != "" {
		c.Warn("REVERB_LARAVEL_QUEUE=%s: the application's own jobs go to the connection %s "+
			"(%s), which is not Redis; %s is the worker for the events", Masked(c.queue),
			show.Quoted(place.Default), place.Says, show.Text(place.Worker))
	}
	c.onto = fmt.Sprintf("are pushed onto %s for %s (%s)", show.Text(place.Key), show.Text(cmp.Or(
		c.Queue.To.Listener.String(), "the listeners of reverb.* events")), show.Text(place.Worker))
}
