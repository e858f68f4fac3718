# The sizes of RecBole's models by default, for histories of 20 items (Caser: 10). Source
# this file, then `sizes NAME` sets those of a recommender.
sizes() {
  export SERALM_RECOMMENDER_MAX_LEN=20 SERALM_RECOMMENDER_LAYERS=2 SERALM_RECOMMENDER_INNER=256
  export SERALM_RECOMMENDER_K_INTERESTS=2 SERALM_RECOMMENDER_KERNEL=2
  case $1 in
  caser) export SERALM_RECOMMENDER_MAX_LEN=10 ;;
  gru4rec) export SERALM_RECOMMENDER_LAYERS=1 SERALM_RECOMMENDER_INNER=128 ;;
  esac
}
