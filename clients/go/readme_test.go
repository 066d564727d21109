package recognition_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	recognition "recognition.example/client"
)

var codeBlock = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

func TestBothReadmesHaveTheSameCode(t *testing.T) {
	blocks := func(name string) []string {
		content, err := os.ReadFile(name)
		must(t, err)
		return codeBlock.FindAllString(string(content), -1)
	}
	if english := blocks("README.md"); len(english) < 4 || !slices.Equal(english, blocks("README.zh-CN.md")) {
		t.Error("they differ")
	}
}

// The program of the README, as it stands there: the same assertion is accepted once, and then rejected.
func TestStageRunsTheProgramOfTheReadme(t *testing.T) {
	s := onStage(t)
	content, err := os.ReadFile("README.md")
	must(t, err)
	var program string
	for _, block := range codeBlock.FindAllStringSubmatch(string(content), -1) {
		if block[1] == "go" && strings.HasPrefix(block[2], "package main\n") {
			program = block[2]
			break
		}
	}
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "main.go"), []byte(program), 0o600))
	asked := s.assertions(dial(t, s.profile("court")), 1)[0]
	must(t, os.WriteFile(filepath.Join(folder, "assertion"), []byte(asked.Presentation+"\n"), 0o600))
	profile := ask[map[string]string](s, "/profiles", nil)["court"]

	built := filepath.Join(folder, "program")
	if said, err := exec.Command("go", "build", "-o", built, filepath.Join(folder, "main.go")).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	run := func() string {
		said, err := exec.Command(built, profile, asked.Matter, filepath.Join(folder, "assertion")).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		return string(said)
	}
	if said := run(); said != "accepted: open the case\n" {
		t.Errorf("first: %s", said)
	}
	if said := run(); said != "rejected: "+recognition.ReasonReplayed.Text(recognition.English).What+"\n" {
		t.Errorf("then: %s", said)
	}
}

func TestTheExampleSaysHowItIsRunAsTheReadmeDoes(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	must(t, err)
	program, err := os.ReadFile("examples/courtdesk/main.go")
	must(t, err)
	comment := strings.ReplaceAll(string(program), "\n//\t", "\n")
	for _, block := range codeBlock.FindAllStringSubmatch(string(readme), -1) {
		if strings.Contains(block[2], "courtdesk") && strings.Contains(comment, "\n"+block[2]) {
			return
		}
	}
	t.Error("they differ")
}
