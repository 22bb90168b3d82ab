// Package settings lets every flag of a command also be set by an environment
// variable and by a line of a file. The nearest wins: flag, environment, file,
// default. It knows no flag by name.
package settings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// variable is the annotation of a flag whose environment variable is not
// called as the flag is.
const variable = "sedge_variable"

// MaxFile is the most that a file of settings may weigh, in bytes.
const MaxFile = 64 << 10

// Rename gives the flag another environment variable than the one of its name.
func Rename(flags *pflag.FlagSet, flag, env string) {
	if err := flags.SetAnnotation(flag, variable, []string{env}); err != nil {
		panic(err) // the flag does not exist: a slip in our own code
	}
}

// Variable returns the environment variable of a flag: --data-dir is
// SEDGE_DATA_DIR.
func Variable(f *pflag.Flag) string {
	if names := f.Annotations[variable]; len(names) > 0 {
		return names[0]
	}
	return Usual(f)
}

// Usual returns the environment variable that goes by the flag's name.
func Usual(f *pflag.Flag) string {
	return "SEDGE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
}

// FromEnvironment sets the flags that were not given from the environment, and
// reports all values that do not fit at once. An empty variable counts as none.
func FromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var faults []error
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" {
			return
		}
		value, ok := lookup(Variable(f))
		if !ok || value == "" {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("environment variable %s: %q does not fit: %w", Variable(f), value, cause(err)))
		}
	})
	return errors.Join(faults...)
}

// Read reads a file of settings, which [FromYAML] takes.
func Read(name string) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, MaxFile+1))
	if err == nil && len(data) > MaxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, MaxFile)
	}
	return data, err
}

// FromYAML sets the flags that were not given yet from YAML whose keys are the
// flags' names; name is what it is called in errors. Unknown keys and values
// that do not fit are refused, all at once; then no flag was set.
func FromYAML(flags *pflag.FlagSet, name string, data []byte) error {
	var values yaml.MapSlice
	if err := yaml.UnmarshalWithOptions(data, &values, yaml.UseOrderedMap()); err != nil {
		return fmt.Errorf("%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, false)))
	}
	var faults []error
	var set []*pflag.Flag
	for _, item := range values {
		key := fmt.Sprint(item.Key)
		f := flags.Lookup(key)
		switch {
		case f == nil || f.Name == "help" || f.Name == "config":
			faults = append(faults, fmt.Errorf("%s: there is no setting %q", name, key))
			continue
		case f.Changed:
			continue
		}
		if err := setValue(flags, f, item.Value); err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", name, key, err))
		}
		set = append(set, f)
	}
	if len(faults) == 0 {
		return nil
	}
	for _, f := range set {
		f.Changed = false
		if err := f.Value.Set(f.DefValue); err != nil {
			faults = append(faults, fmt.Errorf("reset %s: %w", f.Name, err))
		}
	}
	return errors.Join(faults...)
}

func setValue(flags *pflag.FlagSet, f *pflag.Flag, value any) error {
	switch value.(type) {
	case nil, []any, yaml.MapSlice, map[string]any:
		return errors.New("must be one value")
	}
	text := fmt.Sprint(value)
	if err := flags.Set(f.Name, text); err != nil {
		return fmt.Errorf("%q does not fit: %w", text, cause(err))
	}
	return nil
}

// cause strips what pflag puts before the reason: the flag's name, which is
// not what the user wrote.
func cause(err error) error {
	if inner := errors.Unwrap(err); inner != nil {
		return inner
	}
	return err
}
