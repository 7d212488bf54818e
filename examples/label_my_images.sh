#!/usr/bin/env bash
# Have people mark what is wrong with images of yours, and get shards of what reviewers accepted.
#
#     examples/label_my_images.sh my_images/ data/mine
#
# my_images/ holds pictures and their prompts: metadata.csv with the columns file_name and prompt, or a .txt beside each
# picture. The first part ends with an address to open; run the script again whenever people have worked: it takes in
# what they entered, hands out the second round, and writes the dataset once there is something accepted.
set -euo pipefail
images=${1:?usage: label_my_images.sh IMAGES HOME}
export SDG_HOME=${2:?usage: label_my_images.sh IMAGES HOME}
sdg=${SDG:-sdg}

$sdg images import "$images" --model "${MODEL:-unknown}" --licence "${LICENCE:-unknown}"

if [ -n "${PRELABEL:-}" ]; then            # a detector marks first: PRELABEL="--backend openai --base-url … --model …"
  # shellcheck disable=SC2086
  $sdg prelabel run $PRELABEL || test $? = 10   # 10: some images have no readable answer, which is recorded
fi

$sdg annotate push --dry-run               # which images would go to people
if [ -n "${DRY_RUN:-}" ]; then exit 0; fi

$sdg annotate server install               # once; or set LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY
$sdg annotate server start                 # prints the address and the log-in
$sdg annotate init
$sdg annotate push
$sdg annotate pull
$sdg annotate review
$sdg annotate report

if $sdg export run --dry-run; then         # an empty selection is an error: nothing is accepted yet
  $sdg export run --output "$SDG_HOME/exports/mine"
  $sdg export verify "$SDG_HOME/exports/mine"
else
  echo "Nothing is accepted yet: open the address above, mark, and run this script again"
fi
