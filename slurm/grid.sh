#!/bin/bash
# A run for each value of an option, each on one GPU:
#   sbatch slurm/grid.sh --config configs/simclr_cifar10.yaml
#SBATCH --job-name=grid
#SBATCH --array=0-3              # a job for each of VALUES
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=SIGUSR1@300     # 5 minutes before the end: save, and back to the queue
#SBATCH --requeue
#SBATCH --open-mode=append       # the same log after that
#SBATCH --output=slurm-%x-%A_%a.out

OPTION=model.init_args.temperature
VALUES=(0.1 0.2 0.4 0.8)
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" python cli.py fit --trainer.devices 1 "$@" "--$OPTION" "${VALUES[$SLURM_ARRAY_TASK_ID]}"
