package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"reverb/internal/lib/credentials"
	"reverb/internal/lib/dotenv"
	"reverb/internal/lib/plainfile"
)

// devFile is the file in which start --dev keeps its app, for listen and trigger.
const devFile = "reverb-dev.env"

// StartDev replaces the apps by a fresh one, on 127.0.0.1. It keeps the app for listen --dev and
// trigger --dev in the user's own folder that dir finds.
func (c *Config) StartDev(dir func() (string, error)) error {
	a := &c.app
	a.ID, a.Key, a.Secret = credentials.New()
	c.Apps, c.Listen.Host, c.Queue.App = []*App{a}, "127.0.0.1", a.ID
	c.giveHooks(a)
	c.noteHooks()
	made := map[string]string{"REVERB_SERVER_HOST": c.Listen.Host,
		"REVERB_APP_ID": a.ID, "REVERB_APP_KEY": a.Key, "REVERB_APP_SECRET": a.Secret}
	for i, s := range c.inForce {
		if value, ok := made[s.Name]; ok {
			c.inForce[i] = Setting{Name: s.Name, Value: value, Origin: "--dev", secret: s.secret,
				given: s.Name}
		}
	}
	folder, err := dir()
	if err != nil {
		return err
	}
	return keepDev(folder, fmt.Sprintf("REVERB_SERVER_PORT=%d\nREVERB_SERVER_PATH=%q\n"+
		"REVERB_APP_ID=%s\nREVERB_APP_KEY=%s\nREVERB_APP_SECRET=%s\n",
		c.Listen.Port, c.Listen.Path, a.ID, a.Key, a.Secret))
}

// stayDev takes over from old what StartDev has replaced there.
func (c *Config) stayDev(old *Config) {
	c.Apps, c.Listen.Host, c.Queue.App = old.Apps, old.Listen.Host, old.Queue.App
	c.noteHooks()
	for i, s := range c.inForce {
		if before := old.Setting(s.Name); before.Origin == "--dev" {
			c.inForce[i] = before
		}
	}
}

// keepDev writes the file for listen --dev and trigger --dev again. It follows no link, since
// another user may have put one there.
func keepDev(folder, text string) error {
	path := filepath.Join(folder, devFile)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// JoinDev takes the app that start --dev has kept in the same folder.
func (c *Config) JoinDev(dir func() (string, error)) error {
	folder, err := dir()
	if err != nil {
		return err
	}
	path := filepath.Join(folder, devFile)
	b, err := plainfile.Read(path, maxEnvFile)
	if err != nil {
		return fmt.Errorf("no app of start --dev is there (%s); is it running?", errorText(err))
	}
	entries, err := dotenv.Parse(string(b), func(string) (string, bool) { return "", false })
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	kept := &source{flags: map[string]string{}, env: map[string]string{}}
	for _, e := range entries {
		kept.env[e.Name] = e.Value
	}
	c.Apps, c.Problems, c.Listen.Host, c.application = nil, nil, "127.0.0.1", application{}
	for _, v := range Variables() {
		if _, _, ok := kept.lookup(v.Name); ok {
			c.readVariable(&v, kept)
		}
	}
	c.addApp()
	return nil
}
