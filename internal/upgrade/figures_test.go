package upgrade

import (
	"testing"
	"time"

	"reverb/internal/relay"
)

// One connection is one, in what is said of upgrades.
func TestWords(t *testing.T) {
	r := report{PID: 7, Silent: time.Millisecond, Took: time.Second}
	for _, c := range []struct {
		plan  Plan
		given relay.Given
		want  [2]string
	}{
		{Plan{}, relay.Given{},
			[2]string{"0 connections would go on", "0 connections have moved"}},
		{Plan{Plain: 1}, relay.Given{Plain: 1},
			[2]string{"1 connection would go on", "1 connection has moved"}},
		{Plan{Plain: 1, Encrypted: 3, Relayed: 1, Told: 1}, relay.Given{Plain: 2, Relayed: 1,
			Told: 1}, [2]string{"4 connections would go on, 2 of them encrypted, relayed by this " +
			"process, 1 of them relayed by a process before it, 1 would be told to reconnect, " +
			"for want of descriptors",
			"3 connections have moved, 1 of them encrypted, relayed by the old process, 1 was " +
				"told to reconnect"}},
		{Plan{Encrypted: 2, Told: 2}, relay.Given{Told: 2}, [2]string{"0 connections would go " +
			"on, 2 would be told to reconnect, for want of descriptors",
			"0 connections have moved, 2 were told to reconnect"}},
	} {
		if got := c.plan.String(); got != "upgrade: "+c.want[0] {
			t.Errorf("got %s, want %s", got, c.want[0])
		}
		r.Given = c.given
		want := "process 7 serves now: " + c.want[1] + "; silent for 1ms, took 1s"
		if got := r.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
