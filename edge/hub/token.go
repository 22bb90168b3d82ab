package hub

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strings"

	"github.com/sedge-iot/sedge/edge/keys"
)

const (
	tokenBytes   = 32   // of randomness
	minToken     = 16   // characters of a token that a person wrote
	maxTokenFile = 4096 // bytes
)

// openToken returns the token in the file, which it makes if it is not there.
// A file that others may read is narrowed.
func openToken(path string, lg *slog.Logger) (string, error) {
	if path == "" {
		return "", errors.New("neither a token nor a file for it is given")
	}
	token, err := readToken(path, lg)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeToken(path); err != nil {
			return "", fmt.Errorf("make %s: %w", path, err)
		}
		lg.Info("token made", "file", path)
		token, err = readToken(path, lg) // or that of whoever was faster
	}
	return token, err
}

func readToken(path string, lg *slog.Logger) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a file", path)
	}
	if wide := info.Mode().Perm() &^ 0o600; wide != 0 {
		if err := f.Chmod(0o600); err != nil {
			return "", fmt.Errorf("narrow the mode of %s, which others may read: %w", path, err)
		}
		lg.Warn("token file could be read by others; if anyone did, delete it and start again", "file", path, "mode", info.Mode().Perm().String())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxTokenFile))
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s holds no token: at least %d printable characters without spaces (delete the file to have one made)", path, minToken)
	}
	return token, nil
}

// makeToken writes a new token. A file that has come up in the meantime stays.
func makeToken(path string) error {
	secret := make([]byte, tokenBytes)
	rand.Read(secret) // never fails
	err := keys.Create(path, []byte(base64.RawURLEncoding.EncodeToString(secret)+"\n"))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
