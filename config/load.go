package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"sort"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/goccy/go-yaml"
)

// EnvPrefix begins every environment variable that SeRALM reads.
const EnvPrefix = "SERALM_"

// durations is the remedy for one that is not understood.
const durations = "(write 250ms, 5s, 10m, 24h)"

// foreign are variables with our prefix that configure something other than a
// running process: set-up, benches and tests.
var foreign = map[string]bool{
	"SERALM_CONFIG": true, "SERALM_NATIVE": true, "SERALM_LIBTORCH": true, "SERALM_CXX": true,
	"SERALM_DATA": true,
}

// Secret is a string that never prints itself.
type Secret string

// String returns a placeholder, so that a logged configuration holds no password.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "********"
}

// MarshalYAML implements yaml.InterfaceMarshaler, for `config show`.
func (s Secret) MarshalYAML() (any, error) { return s.String(), nil }

// Load returns the defaults, overlaid with the YAML file at path (none if path
// is empty), overlaid with the SERALM_* variables among environ (os.Environ
// form), and validated. A key or variable that does not exist is an error: a
// misspelt setting must not run with its default.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return c, fmt.Errorf("reading configuration: %w (name another file with --config, or none for the defaults)", err)
		}
		if err := decode(data, &c); err != nil {
			return c, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if err := overlay(&c, environ); err != nil {
		return c, err
	}
	if c.Knowledge.Enabled && c.Knowledge.Encoder == "" && c.Recommender.KnowledgeDim == 0 {
		c.Recommender.KnowledgeDim = MiniLMDim
	}
	return c, c.Validate()
}

func decode(data []byte, c *Config) error {
	if len(strings.TrimSpace(string(data))) == 0 {
		return nil
	}
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict(), yaml.CustomUnmarshaler(duration(string(data))))
	defaults := *c
	if err := d.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		// FormatError prints line, column and the offending line itself.
		return errors.New(strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if reflect.ValueOf(*c).IsZero() { // comments alone, which are decoded to nothing at all
		*c = defaults
	}
	var more any
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return errors.New("it has a second document (after a line ---); write all into one")
	}
	return nil
}

// duration decodes a time.Duration in place of the library's own decoder, whose
// error names neither the line nor a remedy. The decoder is handed the value's
// text alone, so the line is found by looking that text up in the document.
func duration(document string) func(*time.Duration, []byte) error {
	return func(d *time.Duration, raw []byte) error {
		text := strings.Trim(string(raw), "\"' \n")
		parsed, err := time.ParseDuration(text)
		if err != nil {
			before, _, _ := strings.Cut(document, text)
			return fmt.Errorf("line %d: %w %s", 1+strings.Count(before, "\n"), err, durations)
		}
		*d = parsed
		return nil
	}
}

func overlay(c *Config, environ []string) error {
	vars := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && strings.HasPrefix(k, EnvPrefix) {
			vars[k] = v
		}
	}
	opts := env.Options{Prefix: EnvPrefix, Environment: vars}
	fields, err := env.GetFieldParamsWithOptions(c, opts)
	if err != nil {
		return fmt.Errorf("BUG: configuration fields: %w", err)
	}
	known := map[string]bool{}
	for _, f := range fields {
		known[f.Key] = true
	}
	var unknown []string
	for k := range vars {
		if !known[k] && !foreign[k] && !strings.HasPrefix(k, "SERALM_TEST_") {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 {
		sort.Strings(unknown)
		return fmt.Errorf("environment: no such setting: %s (`seralm config show --env` lists them all)", strings.Join(unknown, ", "))
	}
	for _, f := range fields { // one by one: the library's error names a field, and several have the same name
		value, set := vars[f.Key]
		if !set {
			continue
		}
		opts.Environment = map[string]string{f.Key: value}
		if err := env.ParseWithOptions(c, opts); err != nil {
			var wrong env.ParseError
			if errors.As(err, &wrong) {
				err = wrong.Err
				if wrong.Type == reflect.TypeFor[time.Duration]() {
					err = fmt.Errorf("%w %s", err, durations)
				}
			}
			return fmt.Errorf("environment: %s: %w", f.Key, err)
		}
	}
	for i, b := range c.Kafka.Brokers {
		c.Kafka.Brokers[i] = strings.TrimSpace(b) // of "a:1, b:2"
	}
	return nil
}

// Variables lists every environment variable Load understands, sorted.
func Variables() ([]string, error) {
	c := Default()
	fields, err := env.GetFieldParamsWithOptions(&c, env.Options{Prefix: EnvPrefix})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range fields {
		names = append(names, f.Key)
	}
	sort.Strings(names)
	return names, nil
}

// YAML renders the configuration with secrets hidden.
func (c Config) YAML() ([]byte, error) { return yaml.Marshal(c) }
