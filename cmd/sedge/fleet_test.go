package main

import (
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// others is the folder of the programs that scripts start beside sedge, built once; it
// is removed when the tests end.
var others = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sedge-scripts-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir, "../sedge-hub", "../sedge-agent")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return dir, nil
})

// other makes a command of a program beside sedge.
func other(ts *testscript.TestScript, name string, args ...string) *exec.Cmd {
	dir, err := others()
	ts.Check(err)
	cmd := command(ts, append([]string{"sedge"}, args...))
	cmd.Path, cmd.Args[0] = filepath.Join(dir, name), name
	return cmd
}

// background starts a program that ends with the script.
func background(ts *testscript.TestScript, cmd *exec.Cmd) {
	out, err := os.OpenFile(ts.MkAbs(cmd.Args[0]+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	ts.Check(err)
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	ts.Check(cmd.Start())
	ts.Defer(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait() // which only says that it was killed
		}
	})
}

func cmdHub(ts *testscript.TestScript, neg bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	addr := l.Addr().String()
	ts.Check(l.Close())
	dir := ts.MkAbs("hub")
	background(ts, other(ts, "sedge-hub", "--data-dir", dir, "--listen", addr))
	ts.Setenv("SEDGE_HUB_URL", "https://"+addr)
	ts.Setenv("SEDGE_TOKEN_FILE", filepath.Join(dir, "token"))
	ts.Setenv("SEDGE_HUB_CA", filepath.Join(dir, "ca.crt"))
	wait(ts, "the hub", func() bool { return command(ts, []string{"sedge", "node", "list"}).Run() == nil })
	houseOf(ts).listen(ts, "mqtt://"+ts.Getenv("MOSQUITTO"))
}

// cmdJoin does what the line says that sedge token create prints.
func cmdJoin(ts *testscript.TestScript, neg bool, args []string) {
	line := strings.Fields(ts.ReadFile(args[1]))
	if len(line) < 2 || line[0] != "sedge-agent" {
		ts.Fatalf("%q is no line to paste", line)
	}
	cmd := other(ts, line[0], append(line[1:], "--data-dir", ts.MkAbs(args[0]), "--node-name", args[0])...)
	out, err := cmd.CombinedOutput()
	ts.Stdout().Write(out)
	if (err == nil) == neg {
		ts.Fatalf("join: %v\n%s", err, out)
	}
}

func cmdAgent(ts *testscript.TestScript, neg bool, args []string) {
	name := args[0]
	password := ts.MkAbs("password")
	ts.Check(os.WriteFile(password, []byte("secret"), 0o600))
	cmd := other(ts, "sedge-agent", "--data-dir", ts.MkAbs(name), "--node-name", name, "--mqtt", "mqtt://"+ts.Getenv("MOSQUITTO"),
		"--mqtt-username", "home", "--mqtt-password-file", password, "--http-listen", "off", "--ops-listen", "off", "--pods", "off")
	background(ts, cmd)
	houseOf(ts).agents[name] = cmd
}

func cmdUnplug(ts *testscript.TestScript, neg bool, args []string) {
	cmd := houseOf(ts).agents[args[0]]
	cmd.Process.Kill()
	cmd.Wait() // which only says that it was killed
}

// tamper changes a database behind the back of the program that has it open. It is a
// program of its own, as whoever does it would have one.
func tamper() {
	db, err := sql.Open("sqlite", "file:"+os.Args[1]+"?_pragma=busy_timeout(10000)")
	if err == nil {
		_, err = db.Exec(os.Args[2])
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
