package broker

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/crypto/bcrypt"
)

// A User may connect. Hash is bcrypt's, as htpasswd -B makes it.
type User struct {
	Name string
	Hash string
}

// An identity is who a client is: the user it proved to be, "" where nobody
// needs to, and the id that it chose.
type identity struct{ user, client string }

// ReadUsers reads lines of the form NAME:HASH. Empty lines and those that begin
// with # are passed over.
func ReadUsers(r io.Reader) ([]User, error) {
	all, err := lines(r)
	if err != nil {
		return nil, err
	}
	var users []User
	for n, line := range all {
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return nil, fmt.Errorf("line %d: want NAME:HASH", n)
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return nil, fmt.Errorf("line %d: password of %s is not hashed with bcrypt (htpasswd -B)", n, name)
		}
		users = append(users, User{Name: name, Hash: hash})
	}
	return users, nil
}

// lines returns the lines of r that say something, trimmed, by number.
func lines(r io.Reader) (iter.Seq2[int, string], error) {
	const most = 1 << 20 // bytes
	text, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && len(text) > most {
		err = errors.New("is larger than 1 MiB")
	}
	return func(yield func(int, string) bool) {
		n := 0
		for line := range strings.Lines(string(text)) {
			n++
			line = strings.TrimSpace(line)
			if line != "" && !strings.HasPrefix(line, "#") && !yield(n, line) {
				return
			}
		}
	}, err
}

// users checks passwords. bcrypt is slow on purpose, so passwords are checked
// one at a time, and one that was right is remembered, hashed, for the next
// time: a board whose devices all come back at once has no second to spare.
type users struct {
	hashes map[string]string // nil: everyone may connect, as nobody in particular
	salt   []byte
	slow   sync.Mutex // held by the one that runs bcrypt

	mu    sync.Mutex
	known map[string][32]byte // guarded by mu; by user
}

// newUsers lets all in, and everyone if there are none and they are not asked for.
func newUsers(all []User, asked bool) *users {
	u := &users{known: map[string][32]byte{}, salt: []byte(rand.Text())}
	if len(all) == 0 && !asked {
		return u
	}
	u.hashes = map[string]string{}
	for _, one := range all {
		u.hashes[one.Name] = one.Hash
	}
	return u
}

// exists reports whether a client may still connect as name.
func (u *users) exists(name string) bool {
	if u.hashes == nil {
		return name == ""
	}
	_, ok := u.hashes[name]
	return ok
}

// unknown is the hash that the password of an unknown user is compared with, so
// that the time taken does not tell who is known.
const unknown = "$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy"

// check reports whether a client may connect as name.
func (u *users) check(name string, password []byte) bool {
	if u.hashes == nil {
		return true
	}
	if len(password) > 72 { // more than bcrypt looks at
		return false
	}
	sum := sha256.Sum256(slices.Concat(u.salt, []byte(name), []byte{0}, password))
	if u.remembers(name, sum) {
		return true
	}
	hash, ok := u.hashes[name]
	if !ok {
		hash = unknown
	}
	u.slow.Lock()
	defer u.slow.Unlock()
	if bcrypt.CompareHashAndPassword([]byte(hash), password) != nil || !ok {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.known[name] = sum
	return true
}

func (u *users) remembers(name string, sum [32]byte) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	known, ok := u.known[name]
	return ok && subtle.ConstantTimeCompare(known[:], sum[:]) == 1
}

// use is what a client does with a topic.
type use byte

const (
	reading use = 1 << iota
	writing
)

// An ACL says who may read and write which topics. The zero ACL allows nothing.
type ACL struct {
	nobody   []rule            // for clients that no user stands behind
	users    map[string][]rule // by name
	patterns []rule            // for everyone, with %u and %c
	open     bool              // everything is allowed
}

type rule struct {
	uses   use
	filter string
}

// rules are what one identity may do.
type rules struct {
	rules []rule
	open  bool
}

// ReadACL reads an ACL in mosquitto's form:
//
//	topic read home/#              what clients without a user may do
//	user lamp                      what follows is for lamp
//	topic readwrite home/lamp/#
//	topic write log                to publish, also as a will or to be retained
//	pattern write state/%c/#       for everyone: %u is the user, %c the client id
//
// Without read, write or readwrite both are meant. Nothing is allowed that is
// not named. A subscription is allowed if one line covers all of its filter.
// Empty lines and those that begin with # are passed over; an ACL without rules
// allows nothing.
func ReadACL(r io.Reader) (*ACL, error) {
	all, err := lines(r)
	if err != nil {
		return nil, err
	}
	a := &ACL{users: map[string][]rule{}}
	user, named := "", false
	for n, line := range all {
		word, rest, _ := strings.Cut(line, " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "user":
			if rest == "" {
				return nil, fmt.Errorf("line %d: user without a name", n)
			}
			user, named = rest, true
			continue
		case "topic", "pattern":
		default:
			return nil, fmt.Errorf("line %d: %q is neither user, topic nor pattern", n, word)
		}
		one, err := parseRule(rest)
		switch {
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case word == "pattern":
			a.patterns = append(a.patterns, one)
		case named:
			a.users[user] = append(a.users[user], one)
		default:
			a.nobody = append(a.nobody, one)
		}
	}
	return a, nil
}

func parseRule(s string) (rule, error) {
	one := rule{uses: reading | writing, filter: s}
	word, rest, _ := strings.Cut(s, " ")
	switch word {
	case "read":
		one = rule{uses: reading, filter: strings.TrimSpace(rest)}
	case "write":
		one = rule{uses: writing, filter: strings.TrimSpace(rest)}
	case "readwrite":
		one.filter = strings.TrimSpace(rest)
	case "deny":
		return rule{}, errors.New("deny is not known here: leave out what is not allowed")
	}
	return one, checkFilter(one.filter)
}

// empty reports whether the ACL allows nothing to anybody.
func (a *ACL) empty() bool {
	return !a.open && len(a.nobody)+len(a.users)+len(a.patterns) == 0
}

// of returns what who may do.
func (a *ACL) of(who identity) rules {
	if a.open {
		return rules{open: true}
	}
	all := a.nobody
	if who.user != "" {
		all = a.users[who.user]
	}
	fill := strings.NewReplacer("%u", who.user, "%c", who.client)
	for _, p := range a.patterns {
		if strings.Contains(p.filter, "%u") && !plain(who.user) || strings.Contains(p.filter, "%c") && !plain(who.client) {
			continue // it would mean more than the pattern does
		}
		all = append(all[:len(all):len(all)], rule{uses: p.uses, filter: fill.Replace(p.filter)})
	}
	return rules{rules: all}
}

// plain reports whether s can stand for one level of a topic and no more.
func plain(s string) bool { return s != "" && !strings.ContainsAny(s, "/+#") && s[0] != '$' }

// allow reports whether topic may be read or written. Topics that begin with $
// are the broker's own.
func (r rules) allow(topic string, u use) bool {
	if strings.HasPrefix(topic, "$") {
		return false
	}
	if r.open {
		return true
	}
	for _, one := range r.rules {
		if one.uses&u != 0 && matches(one.filter, topic) {
			return true
		}
	}
	return false
}

// allowFilter reports whether everything that filter means may be read.
func (r rules) allowFilter(filter string) bool {
	group, path := unshare(filter)
	if strings.HasPrefix(filter, "$") && group == "" || checkFilter(path) != nil || strings.HasPrefix(path, "$") {
		return false
	}
	if r.open {
		return true
	}
	for _, one := range r.rules {
		if one.uses&reading != 0 && covers(one.filter, path) {
			return true
		}
	}
	return false
}

// readFile opens a file for one of the readers above.
func readFile[T any](name string, read func(io.Reader) (T, error)) (T, error) {
	f, err := os.Open(name)
	if err != nil {
		var none T
		return none, err
	}
	defer f.Close()
	v, err := read(f)
	if err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}
