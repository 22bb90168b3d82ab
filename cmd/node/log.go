package node

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
)

// NewLogger returns a logger that writes to w as the options say: for people on
// a terminal and for journald, which has the time itself, as text; for
// programs as JSON. The second result is whether it is text.
func (o Options) NewLogger(w io.Writer) (lg *slog.Logger, text bool, err error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.LogLevel)); err != nil {
		return nil, false, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.LogLevel)
	}
	_, journal := os.LookupEnv("JOURNAL_STREAM")
	settings := &slog.HandlerOptions{Level: level}
	switch o.LogFormat {
	case "auto":
		f, isFile := w.(*os.File)
		text = journal || isFile && isatty.IsTerminal(f.Fd())
	case "text":
		text = true
	case "json":
	default:
		return nil, false, fmt.Errorf("--log-format %q: want text, json or auto", o.LogFormat)
	}
	if !text {
		return slog.New(slog.NewJSONHandler(w, settings)), false, nil
	}
	if journal {
		settings.ReplaceAttr = withoutTime
	}
	return slog.New(slog.NewTextHandler(w, settings)), true, nil
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
