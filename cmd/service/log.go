package service

import (
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/spf13/pflag"
)

// A Log says how a program tells what it does.
type Log struct {
	Level  string
	Format string
}

// AddFlags makes flags of the log.
func (l *Log) AddFlags(f *pflag.FlagSet) {
	f.StringVar(&l.Level, "log-level", "info", "`LEVEL`: debug, info, warn or error")
	f.StringVar(&l.Format, "log-format", "auto", "`FORM`: text, json, or auto: text for a terminal or journald, else json")
}

// New returns a logger that writes to w as it says: for people on
// a terminal and for journald, which has the time itself, as text; for
// programs as JSON. The second result is whether it is text.
func (l Log) New(w io.Writer) (lg *slog.Logger, text bool, err error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, false, fmt.Errorf("--log-level %q: want debug, info, warn or error", l.Level)
	}
	_, journal := os.LookupEnv("JOURNAL_STREAM")
	settings := &slog.HandlerOptions{Level: level}
	switch l.Format {
	case "auto":
		f, isFile := w.(*os.File)
		text = journal || isFile && isatty.IsTerminal(f.Fd())
	case "text":
		text = true
	case "json":
	default:
		return nil, false, fmt.Errorf("--log-format %q: want text, json or auto", l.Format)
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
