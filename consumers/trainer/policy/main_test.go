package policy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"seralm/config"
	"seralm/consumers/generator"
	"seralm/consumers/internal/toy"
	"seralm/consumers/trainer/policy"
)

// childEnv makes the test binary one of the two jobs, which the tests kill.
const childEnv = "SERALM_TEST_ALIGNMENT_CHILD"

type childSpec struct {
	Role   string // generator or policy
	Until  int64  // iterations, of the policy
	Config config.Config
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(childEnv); spec != "" {
		if err := child(spec); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child prints a line for each commit.
func child(spec string) error {
	var s childSpec
	if err := json.Unmarshal([]byte(spec), &s); err != nil {
		return err
	}
	if s.Role == "generator" {
		return toy.Generate(context.Background(), s.Config, func(p generator.Progress) bool {
			fmt.Println(p.Samples)
			return false
		})
	}
	return toy.Train(context.Background(), s.Config, toy.NewPolicy(s.Config), func(p policy.Progress) bool {
		if !p.Replayed {
			fmt.Println(p.Step)
		}
		return p.Step == s.Until
	})
}
