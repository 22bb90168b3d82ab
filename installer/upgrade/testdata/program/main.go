// Command program is what the tests of upgrade upgrade. Its version, and how it behaves,
// are linked in. It says what it comes to, a word a line, and which version it is.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/sedge-iot/sedge/installer/upgrade"
)

// Linked in: good, or crash, hang or unhealthy.
var version, behaviour string

func say(word string) { fmt.Println(word, version, behaviour) }

func init() {
	runtime.LockOSThread()    // for strace to count the calls of one thread
	if behaviour == "crash" { // before Enter could do anything
		say("boot")
		os.Exit(3)
	}
}

func main() {
	s := upgrade.Enter(upgrade.Place{Dir: os.Getenv("DATA"), Program: "program", Version: version, Platform: upgrade.Platform()})
	s.Trust(os.Getenv("KEYS"))
	say("boot")
	var err error
	switch behaviour {
	case "hang":
		for {
			unix.Pause()
		}
	case "unhealthy":
		err = s.Unhealthy("it says so")
	default:
		err = work(s)
	}
	if err == nil && again {
		err = s.Restart()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// again says that another version is to run.
var again = behaviour == "unhealthy"

// work is healthy at once, and takes what is offered.
func work(s *upgrade.Slots) error {
	if err := s.Healthy(); err != nil {
		return err
	}
	if dir := os.Getenv("OFFER"); dir != "" {
		err := take(s, dir)
		refusal, refused := errors.AsType[*upgrade.Refusal](err)
		if !refused {
			again = true
			return err
		}
		say("refused:" + string(refusal.Reason))
	}
	say("healthy")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// take has the version in dir, offer.json and program, run next.
func take(s *upgrade.Slots, dir string) error {
	var o upgrade.Offer
	text, err := os.ReadFile(filepath.Join(dir, "offer.json"))
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		return err
	}
	a, err := s.Offer(o)
	if err != nil {
		return err
	}
	say(fmt.Sprint("from:", a.Offset()))
	f, err := os.Open(filepath.Join(dir, "program"))
	if err != nil {
		return err
	}
	defer f.Close()
	for piece := make([]byte, 256<<10); ; {
		at := a.Offset()
		n, err := f.ReadAt(piece, at)
		if n == 0 {
			break
		}
		if err := a.Write(at, piece[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			break
		}
	}
	slot, err := a.Finish()
	if err != nil {
		return err
	}
	say("arrived")
	if err := s.Select(slot, o.Order, upgrade.Health{"broker": ""}); err != nil {
		return err
	}
	say("selected")
	return nil
}
