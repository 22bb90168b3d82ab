package broker

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/crypto/bcrypt"

	"github.com/sedge-iot/sedge/devices"
)

const houseACL = `
# clients without a user
topic read public/#

user lamp
topic readwrite home/lamp/#
topic read home/+/state
topic write log

user app
topic read #
topic write home/+/set

user sensor

pattern write own/%c/#
pattern readwrite box/%u
`

func hashed(t testing.TB, names ...string) []User {
	t.Helper()
	var all []User
	for _, name := range names {
		h, err := bcrypt.GenerateFromPassword([]byte(name+"'s password"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, User{Name: name, Hash: string(h)})
	}
	return all
}

func guarded(t testing.TB) Config {
	return Config{Users: hashed(t, "lamp", "app", "sensor", "+", "a/b", "%c"), ACLFile: write(t, "acl", houseACL)}
}

func as(user, id string) hello {
	return hello{id: id, user: user, password: user + "'s password"}
}

// TestACL tries every way to write or read a topic, as seen from the outside.
func TestACL(t *testing.T) {
	b := run(t, guarded(t), "#")
	for _, tt := range []struct {
		user, id, topic string
		write, read     bool
	}{
		{"lamp", "l1", "home/lamp/x", true, true},
		{"lamp", "l1", "home/lamp", true, true},
		{"lamp", "l1", "home/lamps", false, false},
		{"lamp", "l1", "home/fan/state", false, true},
		{"lamp", "l1", "home/fan/state/x", false, false},
		{"lamp", "l1", "log", true, false},
		{"lamp", "l1", "log/x", false, false},
		{"lamp", "l1", "public/x", false, false},
		{"lamp", "l1", "home/#", false, false},
		{"lamp", "l1", "home/+/state", false, true},
		{"lamp", "l1", "home/lamp/#", false, true},
		{"lamp", "l1", "home/lamp/+/deep", false, true},
		{"lamp", "l1", "home/+/+", false, false},
		{"lamp", "l1", "#", false, false},
		{"lamp", "l1", "+", false, false},
		{"lamp", "l1", "$share/g/home/lamp/#", false, true},
		{"lamp", "l1", "$share/g/home/#", false, false},
		{"lamp", "l1", "$share/g/#", false, false},
		{"lamp", "l1", "$SHARE/g/#", false, false},
		{"lamp", "l1", "$share/g/$SYS/#", false, false},
		{"lamp", "l1", "$SYS/x", false, false},
		{"lamp", "l1", "home/lamp/x#", false, false},
		{"lamp", "l1", "home/lamp/#/x", false, false},
		{"lamp", "l1", "own/l1/x", true, false},
		{"lamp", "l1", "own/l2/x", false, false},
		{"lamp", "l1", "box/lamp", true, true},
		{"lamp", "l1", "box/app", false, false},
		{"lamp", "+", "own/l1/x", false, false},
		{"lamp", "#", "own/l1/x", false, false},
		{"lamp", "l1/x", "own/l1/x", false, false},
		{"lamp", "%u", "own/lamp/x", false, false},
		{"app", "a1", "home/lamp/set", true, true},
		{"app", "a1", "home/lamp/set/x", false, true},
		{"app", "a1", "home/lamp/x", false, true},
		{"app", "a1", "#", false, true},
		{"app", "a1", "$SYS/#", false, false},
		{"app", "lamp", "home/lamp/x", false, true},
		{"sensor", "s1", "home/lamp/x", false, false},
		{"sensor", "s1", "public/x", false, false},
		{"sensor", "s1", "own/s1/x", true, false},
		{"+", "p1", "box/lamp", false, false},
		{"a/b", "p1", "box/a/b", false, false},
		{"%c", "lamp", "box/lamp", false, false},
		{"%c", "x", "box/%c", true, true},
	} {
		t.Run(tt.user+" "+tt.id+" "+tt.topic, func(t *testing.T) {
			wild := strings.ContainsAny(tt.topic, "+#")
			if !wild {
				writes(t, b, as(tt.user, tt.id), tt.topic, tt.write)
			}
			reads(t, b, as(tt.user, tt.id), tt.topic, tt.read)
			if c, code := tryDial(t, b.Addr(), withWill(as(tt.user, tt.id), tt.topic)); (code == 0) != tt.write {
				t.Errorf("connect with a will on %s: code %#x, want allowed = %v", tt.topic, code, tt.write)
			} else if code == 0 {
				c.bye()
			}
		})
	}
}

func withWill(h hello, topic string) hello {
	h.will = &packets.Packet{TopicName: topic, Payload: []byte("x")}
	return h
}

// writes publishes at each QoS, retained or not, and repeated.
func writes(t *testing.T, b *rig, h hello, topic string, allowed bool) {
	t.Helper()
	for _, dup := range []bool{false, true} {
		for qos := range byte(3) {
			c := dial(t, b.Addr(), h)
			pk := message4(topic, fmt.Sprint("allowed: ", allowed), qos, min(uint16(qos), 1))
			pk.FixedHeader.Retain, pk.FixedHeader.Dup = true, dup && qos > 0
			c.send(pk)
			if !allowed {
				if qos == 0 {
					c.ping()
				} else {
					c.closed()
				}
				continue
			}
			if m := b.hears(t); m.Topic != topic {
				t.Errorf("heard %s, want %s", m.Topic, topic)
			} else if m.Ack != nil {
				m.Ack.Ack()
			}
			c.conn.Close()
		}
	}
	if !allowed {
		select {
		case m := <-b.heard:
			t.Errorf("heard %s, which may not be written", m.Topic)
		default:
		}
		if m := b.retain.get(topic); m != nil && string(m.payload) == "allowed: false" {
			t.Errorf("%s is retained", topic)
		}
	}
}

// reads subscribes.
func reads(t *testing.T, b *rig, h hello, filter string, allowed bool) {
	t.Helper()
	h.keep = true
	c := dial(t, b.Addr(), h)
	code := c.subscribe(filter, 1)
	if (code <= 1) != allowed {
		t.Errorf("subscribe to %s: code %#x, want allowed = %v", filter, code, allowed)
	}
	if !allowed {
		c.nothing()
	}
	c.conn.Close()
	dial(t, b.Addr(), as(h.user, h.id)).bye() // forgets the session
}

func TestASubscriptionBringsOnlyWhatMayBeRead(t *testing.T) {
	b := run(t, guarded(t))
	for topic := range strings.FieldsSeq("home/lamp/x home/fan/state secret") {
		b.Publish(devices.Publication{Topic: topic, Payload: []byte("x"), Retain: true}, func(error) {})
	}
	c := dial(t, b.Addr(), as("lamp", "l1"))
	c.subscribe("home/+/state", 0)
	if pk := c.expect(packets.Publish); pk.TopicName != "home/fan/state" {
		t.Errorf("got %s", pk.TopicName)
	}
	c.nothing()
	b.Publish(devices.Publication{Topic: "secret", Payload: []byte("x")}, func(error) {})
	c.nothing()
}

func TestAnotherUserNeitherTakesASessionOverNorReadsIt(t *testing.T) {
	b := run(t, guarded(t))
	app := as("app", "shared-id")
	app.keep = true
	c := dial(t, b.Addr(), app)
	c.subscribe("secret", 1)
	publishWell(t, b, "secret", "in flight")
	c.expect(packets.Publish)

	lamp := as("lamp", "shared-id")
	lamp.keep = true
	thief := dial(t, b.Addr(), lamp)
	if thief.present {
		t.Error("another user's session is said to be present")
	}
	thief.nothing()
	c.ping() // still there
	c.conn.Close()
	publishWell(t, b, "secret", "queued")
	thief.nothing()
	thief.conn.Close()
	dial(t, b.Addr(), as("lamp", "shared-id")).bye() // a clean start wipes nobody else's

	c = dial(t, b.Addr(), app)
	for _, want := range []string{"in flight", "queued"} {
		if pk := c.expect(packets.Publish); string(pk.Payload) != want {
			t.Errorf("got %q, want %q", pk.Payload, want)
		}
	}
}

func TestAKeptSessionLosesWhatItsUserMayNoLongerRead(t *testing.T) {
	cfg := guarded(t)
	cfg.Dir = t.TempDir()
	b := run(t, cfg)
	h := as("app", "a1")
	h.keep = true
	c := dial(t, b.Addr(), h)
	c.subscribe("#", 1)
	c.conn.Close()
	publishWell(t, b, "secret", "x")
	publishWell(t, b, "home/1/set", "y")
	b.stop()

	cfg.ACLFile = write(t, "acl", "user app\ntopic read home/#\n")
	b = run(t, cfg)
	publishWell(t, b, "secret", "z")
	c = dial(t, b.Addr(), h)
	if pk := c.expect(packets.Publish); pk.TopicName != "home/1/set" {
		t.Errorf("got %s, which may not be read", pk.TopicName)
	}
	c.nothing()
	b.stop()

	cfg.Users = hashed(t, "lamp")
	b = run(t, cfg)
	if n := b.Status().Sessions; n != 0 {
		t.Errorf("%d sessions of users that are gone, want 0", n)
	}
}

func TestLogins(t *testing.T) {
	b := run(t, guarded(t))
	for _, tt := range []struct {
		name string
		hello
		allowed bool
	}{
		{"right", as("lamp", "1"), true},
		{"right once more", as("lamp", "1"), true},
		{"wrong password", hello{id: "1", user: "lamp", password: "x"}, false},
		{"another's password", hello{id: "1", user: "lamp", password: "app's password"}, false},
		{"no password", hello{id: "1", user: "lamp"}, false},
		{"password beyond bcrypt", hello{id: "1", user: "lamp", password: strings.Repeat("x", 80)}, false},
		{"unknown user", as("nobody", "1"), false},
		{"no user", hello{id: "1"}, false},
	} {
		if _, code := tryDial(t, b.Addr(), tt.hello); (code == 0) != tt.allowed {
			t.Errorf("%s: code %#x, want allowed = %v", tt.name, code, tt.allowed)
		}
	}
}

func TestAnEmptyOrUnreadableACLAllowsNothing(t *testing.T) {
	for name, file := range map[string]string{
		"empty":   write(t, "acl", ""),
		"comment": write(t, "acl", "# topic readwrite #\n"),
		"missing": "/nonexistent/acl",
		"folder":  t.TempDir(),
	} {
		b := run(t, Config{ACLFile: file}, "#")
		c := dial(t, b.Addr(), hello{id: "x"})
		if code := c.subscribe("a", 0); code < 0x80 {
			t.Errorf("%s: subscribed with code %#x", name, code)
		}
		c.publish("a", "x", 1, 1)
		c.closed()
		b.silence(t)
		if len(b.Status().Faults) == 0 {
			t.Errorf("%s: Status has no fault", name)
		}
	}
}

func TestBadFilesAreRefused(t *testing.T) {
	for name, cfg := range map[string]Config{
		"unknown word":   {ACLFile: write(t, "acl", "topic read a\nallow all\n")},
		"bad filter":     {ACLFile: write(t, "acl", "topic read a/#/b\n")},
		"no filter":      {ACLFile: write(t, "acl", "topic read\n")},
		"deny":           {ACLFile: write(t, "acl", "topic deny a\n")},
		"huge ACL":       {ACLFile: write(t, "acl", strings.Repeat("#\n", 1<<20))},
		"plain password": {UsersFile: write(t, "users", "lamp:secret\n")},
		"no colon":       {UsersFile: write(t, "users", "lamp\n")},
		"no users file":  {UsersFile: "/nonexistent/users"},
		"exposed":        {Listener: listen(t, "0.0.0.0:0")},
		"exposed, users": {Listener: listen(t, ":0"), Users: hashed(t, "lamp")},
	} {
		if cfg.Listener == nil {
			cfg.Listener = listen(t, "127.0.0.1:0")
		}
		if b, err := New(cfg); err == nil {
			b.close()
			t.Errorf("%s: New = nil, want an error", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func TestAnEmptyUsersFileLetsNobodyIn(t *testing.T) {
	b := run(t, Config{UsersFile: write(t, "users", "\n")})
	if _, code := tryDial(t, b.Addr(), hello{id: "x"}); code == 0 {
		t.Error("connected")
	}
}

func TestFiltersMatchAndCover(t *testing.T) {
	topics := strings.Fields("a a/b a/b/c b / /a a/ a//b $x $x/a")
	filters := strings.Fields("# + a a/# a/+ +/# +/b a/+/c a/b/# / /+ +/ a//b $x $x/# +/+ b")
	for _, f := range filters {
		for _, g := range filters {
			covered := true
			for _, topic := range topics {
				if matches(g, topic) && !matches(f, topic) {
					covered = false
				}
			}
			if covers(f, g) && !covered {
				t.Errorf("covers(%q, %q), but some topic is matched by the second alone", f, g)
			}
		}
		if !covers(f, f) {
			t.Errorf("%q does not cover itself", f)
		}
	}
	// The index finds what matches does.
	for _, f := range filters {
		index := newTopics()
		index.add(&subscription{filter: f})
		for _, topic := range topics {
			if got, want := index.route(topic).wanted, matches(f, topic); got != want {
				t.Errorf("route(%q) by %q = %v, want %v", topic, f, got, want)
			}
		}
	}
}
