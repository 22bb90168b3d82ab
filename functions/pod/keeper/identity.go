package keeper

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// The variables by which a pod is told who it is, in hexadecimal digits. Neither is
// in the keeper's environment once guest code runs.
const (
	SeedVariable  = "SEDGE_KEEPER_SEED"  // of the keeper's own key
	AgentVariable = "SEDGE_KEEPER_AGENT" // the agent's public key
)

// fileVariable names the file descriptor at which a keeper that was started
// again finds its identity.
const fileVariable = "SEDGE_KEEPER_FD"

// An identity is a keeper's own seed and the key of its agent.
type identity struct {
	seed  []byte
	agent ed25519.PublicKey
}

// identify returns who the keeper is. What the kernel shows as a process's
// environment is what it was started with, whatever it does to its variables: so the
// keeper starts itself again without them, in the same process, and gets the seed
// through a pipe. From then on no other process may look into it.
func identify() (identity, error) {
	if fd, ok := os.LookupEnv(fileVariable); ok {
		return inherit(fd)
	}
	seed, err := fromHex(SeedVariable, ed25519.SeedSize)
	if err != nil {
		return identity{}, err
	}
	agent, err := fromHex(AgentVariable, ed25519.PublicKeySize)
	if err != nil {
		return identity{}, err
	}
	return identity{}, restart(append(seed, agent...))
}

func fromHex(variable string, size int) ([]byte, error) {
	b, err := hex.DecodeString(os.Getenv(variable))
	if err != nil || len(b) != size {
		return nil, fmt.Errorf("%s does not hold %d bytes in hexadecimal digits", variable, size)
	}
	return b, nil
}

// restart replaces the program by itself, with secret in a pipe. It returns only if
// that fails.
func restart(secret []byte) error {
	var fds [2]int
	if err := unix.Pipe2(fds[:], 0); err != nil { // not closed by exec
		return fmt.Errorf("pipe: %w", err)
	}
	if _, err := unix.Write(fds[1], secret); err != nil { // far less than a pipe holds
		return fmt.Errorf("pipe: %w", err)
	}
	unix.Close(fds[1])
	err := unix.Exec("/proc/self/exe", os.Args, []string{fileVariable + "=" + strconv.Itoa(fds[0])})
	return fmt.Errorf("start again without the seed in the environment: %w", err)
}

func inherit(descriptor string) (identity, error) {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return identity{}, fmt.Errorf("keep others from looking in: %w", err)
	}
	fd, err := strconv.Atoi(descriptor)
	if err != nil {
		return identity{}, fmt.Errorf("%s: %w", fileVariable, err)
	}
	unix.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "identity")
	if f == nil {
		return identity{}, errors.New(fileVariable + " names no file")
	}
	defer f.Close()
	b := make([]byte, ed25519.SeedSize+ed25519.PublicKeySize)
	if _, err := io.ReadFull(f, b); err != nil {
		return identity{}, fmt.Errorf("read identity: %w", err)
	}
	return identity{seed: b[:ed25519.SeedSize], agent: b[ed25519.SeedSize:]}, nil
}
