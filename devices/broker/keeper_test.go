package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/sedge-iot/sedge/devices"
	"github.com/sedge-iot/sedge/edge/sqlite"
)

func TestSessionsAndRetainedSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	b := run(t, Config{Dir: dir})
	h := hello{id: "lamp", keep: true}
	lamp := dial(t, b.Addr(), h)
	lamp.subscribe("lamp/set", 1)
	lamp.subscribe("gone", 1)
	lamp.send(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe, Qos: 1}, PacketID: 2, Filters: packets.Subscriptions{{Filter: "gone"}},
	})
	lamp.expect(packets.Unsuback)
	publishWell(t, b, "lamp/set", "sent")
	sent := lamp.expect(packets.Publish)
	lamp.conn.Close()
	eventually(t, "the client has left", func() bool { return b.Status().Clients == 0 })
	publishWell(t, b, "lamp/set", "waiting", "")
	b.Publish(devices.Publication{Topic: "state", Payload: []byte("on"), Retain: true}, func(error) {})
	b.stop()

	b = run(t, Config{Dir: dir}, "state")
	if m := b.hears(t); !m.Retained || string(m.Payload) != "on" {
		t.Errorf("heard %+v, want the retained message", m)
	}
	publishWell(t, b, "lamp/set", "new")
	publishWell(t, b, "gone", "x")
	lamp = dial(t, b.Addr(), h)
	if !lamp.present {
		t.Error("the session is not said to be present")
	}
	for _, want := range []string{"sent", "waiting", "", "new"} {
		pk := lamp.expect(packets.Publish)
		if string(pk.Payload) != want {
			t.Errorf("got %q, want %q", pk.Payload, want)
		}
		if again := want == "sent"; pk.FixedHeader.Dup != again || again && pk.PacketID != sent.PacketID {
			t.Errorf("%q: packet %d, dup %v; was sent as packet %d", want, pk.PacketID, pk.FixedHeader.Dup, sent.PacketID)
		}
		lamp.puback(pk.PacketID)
	}
	lamp.ping()
	eventually(t, "nothing is queued", func() bool { return b.Status().Queued == 0 })
	b.stop()
	b = run(t, Config{Dir: dir})
	if n := b.Status().Queued; n != 0 {
		t.Errorf("%d acknowledged messages came back", n)
	}
}

func TestASessionsNameSurvivesARestartAndNoOtherHasIt(t *testing.T) {
	dir := t.TempDir()
	h := hello{id: "sensor", keep: true}
	names := map[string]int{}
	for range 2 {
		b := run(t, Config{Dir: dir}, "#")
		dial(t, b.Addr(), h).publish("a", "x", 0, 0)
		names[b.hears(t).Session]++
		dial(t, b.Addr(), hello{id: "clean"}).publish("a", "x", 0, 0)
		names[b.hears(t).Session]++
		b.stop()
	}
	if len(names) != 3 {
		t.Errorf("a kept session and two clean ones have the names %v", names)
	}
}

// TestMain lets the test binary be a broker that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("BROKER_DIR"); dir != "" {
		if err := serve(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

// serve runs a broker that says where it is.
func serve(dir string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b, err := New(Config{Listener: l, Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	return b.Run(context.Background(), func(devices.Message) {})
}

// child starts a broker in a process of its own.
func child(t *testing.T, dir string) (addr addr, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "BROKER_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); errors.Is(err, syscall.ENOEXEC) {
		t.Skip("an emulated program cannot start another")
	} else if err != nil {
		t.Fatal(err)
	}
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	return dialable(strings.TrimSpace(string(line[:n]))), kill
}

type addr = dialable

type dialable string

func (d dialable) Network() string { return "tcp" }
func (d dialable) String() string  { return string(d) }

func TestWhatWasAcknowledgedSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	at, kill := child(t, dir)
	h := hello{id: "lamp", keep: true}
	lamp := dial(t, at, h)
	lamp.subscribe("set/#", 1)
	var want []string
	for round := range 5 {
		c := dial(t, at, hello{id: "switch"})
		for i := range uint16(20) {
			payload := fmt.Sprintf("%d.%d", round, i)
			c.publish("set/1", payload, 1, i+1)
			if round%2 == 0 { // the lamp takes and acknowledges some at once
				if pk := lamp.expect(packets.Publish); i%2 == 0 {
					lamp.puback(pk.PacketID)
				} else {
					want = append(want, payload)
				}
			} else {
				want = append(want, payload)
			}
			c.expect(packets.Puback)
		}
		kill()
		at, kill = child(t, dir)
		if round%2 == 0 {
			continue // the lamp stays away for a round
		}
		lamp = dial(t, at, h)
		if !lamp.present {
			t.Fatal("the session is gone")
		}
		seen := map[string]bool{}
		for len(seen) < len(want) {
			pk := lamp.expect(packets.Publish)
			seen[string(pk.Payload)] = true
			lamp.puback(pk.PacketID)
		}
		for _, p := range want {
			if !seen[p] {
				t.Errorf("%s was acknowledged and is lost", p)
			}
		}
		want = nil
		lamp.ping()
	}
}

func TestNothingIsWrittenForWhatIsAcknowledgedSoon(t *testing.T) {
	dir := t.TempDir()
	b := run(t, Config{Dir: dir}, "in")
	soon := func(d time.Duration) {
		b.keeper.mu.Lock()
		b.keeper.holdTime = d
		b.keeper.mu.Unlock()
	}
	soon(time.Minute) // also on a slow machine
	lamp := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	lamp.subscribe("set", 1)
	before := wal(t, dir)
	for range 200 {
		publishWell(t, b, "set", "on")
		lamp.puback(lamp.expect(packets.Publish).PacketID)
	}
	lamp.ping()
	if after := wal(t, dir); after != before {
		t.Errorf("the log grew from %d to %d bytes", before, after)
	}
	lamp.conn.Close()
	again := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	again.subscribe("set", 1)
	if after := wal(t, dir); after != before {
		t.Errorf("coming back made the log grow from %d to %d bytes", before, after)
	}
	soon(holdTime)
	publishWell(t, b, "set", "on") // the harness can see
	eventually(t, "what is not acknowledged is written", func() bool { return wal(t, dir) > before })
}

func wal(t testing.TB, dir string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(dir, "broker.db-wal"))
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestAPublisherHearsOnlyWhenASlowSubscribersMessageIsStored(t *testing.T) {
	b := run(t, Config{Dir: t.TempDir()})
	lamp := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	lamp.subscribe("set", 1)
	c := dial(t, b.Addr(), hello{id: "switch"})
	c.publish("set", "on", 1, 1)
	pk := lamp.expect(packets.Publish)
	c.expect(packets.Puback) // the lamp has not acknowledged
	var rows int
	if err := b.keeper.db.Read().QueryRow(`SELECT count(*) FROM messages`).Scan(&rows); err != nil || rows != 1 {
		t.Errorf("%d messages are stored (%v), want 1", rows, err)
	}
	lamp.puback(pk.PacketID)
	eventually(t, "it is removed", func() bool {
		return b.keeper.db.Read().QueryRow(`SELECT count(*) FROM messages`).Scan(&rows) == nil && rows == 0
	})
}

func TestADamagedDatabaseIsSetAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broker.db"), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	b := run(t, Config{Dir: dir})
	lamp := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	lamp.subscribe("a", 1)
	if all, _ := filepath.Glob(filepath.Join(dir, "broker.db.damaged-*")); len(all) != 1 {
		t.Errorf("set aside are %v, want one file", all)
	}
}

func TestWhileTheDatabaseFailsNothingIsAcknowledgedThatMustBeKept(t *testing.T) {
	b := run(t, Config{Dir: t.TempDir()})
	alter := func(sql string) {
		t.Helper()
		if err := b.keeper.db.Update(func(tx *sqlite.Tx) error { _, err := tx.Exec(sql); return err }); err != nil {
			t.Fatal(err)
		}
	}
	lamp := dial(t, b.Addr(), hello{id: "lamp", keep: true})
	lamp.subscribe("set", 1)
	c := dial(t, b.Addr(), hello{id: "switch"})
	alter(`ALTER TABLE messages RENAME TO away`)
	c.publish("set", "on", 1, 1)
	lamp.expect(packets.Publish) // is delivered all the same
	eventually(t, "Status says so", func() bool { return len(b.Status().Faults) == 1 })
	c.nothing()
	alter(`ALTER TABLE away RENAME TO messages`)
	c.expect(packets.Puback)
	eventually(t, "Status says no more", func() bool { return len(b.Status().Faults) == 0 })
}
